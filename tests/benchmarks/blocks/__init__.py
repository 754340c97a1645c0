"""What new blocks do to a pretrained network, as `suggest` starts them.

    make blocks                                          # all of them
    .venv/bin/python tests/benchmarks blocks --only 'SE*'

Each block is put into the network that was pretrained on real digits, at two
places, by a config as users write them. What `mmpartinit suggest` prints is
pasted below the config, and both are trained.
"""
