"""The demo: what new modules do to a pretrained network, with the hook and
without, on real images of handwritten digits.
"""
