"""Why a compiler refused: the layer, the operator, the line, and what to do."""
