"""Language-aware metric 3D perception for robots from one colour camera.

The ROS build generates ``vidllm_ros.msg``, ``.srv`` and ``.action`` into an installed package of this same name.
Extending the path lets the source tree and that installed half be imported together, whichever of them Python finds
first.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
