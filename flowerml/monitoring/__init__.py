"""What served inputs and answers look like beside those of the validation examples: a log, a reference, drift."""
