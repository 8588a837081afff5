"""What runs on the device, in Triton's language. Imported by the kernels beside this folder, when they run."""
