"""A model for people who do not have this project: ONNX, or as transformers, timm, … have it.

command.py        `make export`: from a version and the test rows to a folder
description.py    what the folder says of inputs and answers, and which models cannot be exported
onnx_graph.py     the network as ONNX;  int8.py  its form in 8-bit integers
transformers_layout.py, vision_layout.py, keras_layout.py   weights under the names of those libraries
use_me.py         copied into every folder: predicts without this project
parity.py         the folder's answers beside the model's own, on the test rows;  readme.py  says it
"""
