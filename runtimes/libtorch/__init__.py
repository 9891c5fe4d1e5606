"""What torch runs: TorchScript, exported programs (``.pt2``) and AOTInductor's native code."""
