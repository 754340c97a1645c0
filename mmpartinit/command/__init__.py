"""The ``mmpartinit`` command: plan, suggest, show, demo."""
