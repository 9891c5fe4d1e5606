"""Everything that edgeport promises of a GPU, checked on the machine that has one, in one command.

    python -m edgeport.gpu_check --models FOLDER

It needs the wheels and bundles, no network and no checkout. Every step is a row with its outcome; a
step that fails is a row too, and the next one goes on.
"""

__all__: list[str] = []
