"""What is put in place of some operations of a network before it is compiled for a GPU (decision 0030).

Works on the graph that `torch.compile` traces, so it holds for every family. Each module here has one kind of
operation: what replaces it, and when.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule
from torch.nn import functional

from retrainer.training._first_convolution import first_convolution
from retrainer.training._rewrite.attention import drop_full_mask
from retrainer.training._rewrite.embeddings import lookup, plain_lookup
from retrainer.training._rewrite.encoder import Encoder
from retrainer.training._rewrite.norms import autocasts, layer_norm, rewrite_batch_norm
from retrainer.training._rewrite.stem import is_first_convolution, rewrite_pool


def rewrite(module: GraphModule) -> GraphModule:
    """Changes the graph in place and returns its module."""
    graph = module.graph
    encoder = Encoder(graph)
    for node in list(graph.nodes):
        if node.target is functional.scaled_dot_product_attention:
            drop_full_mask(node)
            encoder.attention(node)
        elif node.target is functional.gelu:
            encoder.gelu(node)
        elif node.target is functional.layer_norm and autocasts(node):
            encoder.norm(node)
    encoder.finish()
    for node in list(graph.nodes):
        if node.target is functional.batch_norm:
            rewrite_batch_norm(graph, node)
        elif node.target is functional.layer_norm and autocasts(node):
            node.target = layer_norm
        elif node.target is functional.max_pool2d:
            rewrite_pool(graph, node)
        elif node.target is torch.conv2d and is_first_convolution(node):
            node.target, node.args = first_convolution, node.args[:2]
        elif node.target is functional.embedding and plain_lookup(node):
            node.target, node.args, node.kwargs = lookup, node.args[:3], {}
    graph.lint()
    module.recompile()
    return module
