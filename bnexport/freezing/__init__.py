"""From a model to a written and proven inference graph."""
