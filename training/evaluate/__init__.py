"""Evaluation of a trained model: metrics, reports, calibration and operating points."""
