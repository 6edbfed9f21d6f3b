"""`canhazgpu kubernetes`: a device plugin, which offers the GPUs of this node to the kubelet for pods.

In come the kubelet's requests for GPUs and its list of pods; out go requests to the service, and the list of
GPUs with their health. It keeps no state of its own and never decides who gets a GPU. Start with `plugin`.
"""
