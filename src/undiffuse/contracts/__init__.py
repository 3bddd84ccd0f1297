"""What must hold for every denoiser, step, degradation and algorithm, as functions that raise AssertionError.

The test suite applies them to everything in the registries; a plugin's own tests can do the same:

    from undiffuse.contracts.operator import check
    check(my_operator)
"""
