"""`undiffuse analyse`: what priors do on their way from noise to a picture, measured, drawn and written as one page."""
