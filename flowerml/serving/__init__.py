"""A served classifier: the MLflow model (`pyfunc`), its wire format (`answer`) and a client (`client`)."""
