"""Frames to windows to metric reconstruction to map to answers, without ROS."""
