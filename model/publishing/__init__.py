"""Publishing: the model card and the checked folder for the Hub."""
