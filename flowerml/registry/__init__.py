"""The MLflow model registry: registering, the gate, promotion, reproduction, the model card."""
