"""Metrics pushed to CloudWatch, in SageMaker's namespaces, names, units and dimensions.

It sends what `metrics` counted since the last push, and never holds up a request: boto3 works in a
thread, and what can't be sent is sent with the next push. Calls `metrics` and `config`.
"""
