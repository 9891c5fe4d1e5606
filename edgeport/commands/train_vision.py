"""``edgeport train vision:NAME``: a model of torchvision on a folder of images."""

import argparse


def add(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    return kinds.add_parser("vision", help="any model of torchvision: vision:resnet18")
