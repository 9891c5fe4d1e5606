import sys
from pathlib import Path

# Appended: what is installed comes before the checkout.
sys.path.append(str(Path(__file__).resolve().parents[2]))  # for the scripts, which export the zoo
