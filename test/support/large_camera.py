"""A camera of 640 x 480 at 30 Hz with its camera_info, best effort: what a driver does."""

import signal
import sys
import time

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from robot import camera_info, picture
from sensor_msgs.msg import CameraInfo, Image

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
rclpy.init()
node = Node("large_camera")
image = node.create_publisher(Image, f"{sys.argv[1]}/image", qos_profile_sensor_data)
info = node.create_publisher(CameraInfo, f"{sys.argv[1]}/camera_info", qos_profile_sensor_data)
message, calibration = picture(0, 640, 480), camera_info(0, 640, 480)
while True:
    message.header.stamp = calibration.header.stamp = node.get_clock().now().to_msg()
    image.publish(message)
    info.publish(calibration)
    time.sleep(1 / 30)
