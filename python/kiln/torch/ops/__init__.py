"""How ATen operators are written as operations of tensor functions, by kind; ``kiln.torch.table`` lists them."""
