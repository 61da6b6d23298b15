"""YOLOv8 detectors, from weight files and from ONNX."""
