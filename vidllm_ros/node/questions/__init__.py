"""Questions to answers: the service and the action, the queue, and the words around boxes.

Start with ``query_server.py`` (from ROS to the queue), then ``answering.py`` (from the queue to the model).
"""
