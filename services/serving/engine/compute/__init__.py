"""The only home of vLLM and transformers: a model that generates, a tokenizer that renders, a look at tensors."""

from services.serving.engine.compute.inspection import inspect_adapter, tensor_shapes
from services.serving.engine.compute.model import Model, ModelOptions
from services.serving.engine.compute.template import Renderer

__all__ = ["Model", "ModelOptions", "Renderer", "inspect_adapter", "tensor_shapes"]
