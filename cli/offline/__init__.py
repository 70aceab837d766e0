"""Classifies many videos into a folder of results that an interrupted run can continue."""
