"""What a trained model is worth: metrics, reports, calibration and operating points."""
