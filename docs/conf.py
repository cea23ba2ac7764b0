"""Sphinx settings of the documentation; `python docs/build.py` builds it.

Sphinx is used rather than MkDocs because it checks references between pages and docstrings, and because its search
works on local files. Docutils' own converter writes formulas as MathML, which browsers draw without scripts or fonts
from other hosts.
"""

import inspect

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

project = "linearized"
author = "The authors of linearized"
copyright = author
html_title = "linearized"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings state types and shapes in words
autodoc_default_options = {
    "exclude-members": "set_fit_request, set_predict_request, set_score_request"
}  # methods that scikit-learn adds
default_role = "literal"  # sets `name` in docstrings as literal text
napoleon_google_docstring, napoleon_numpy_docstring, napoleon_use_ivar = True, True, True

html_theme = "furo"
html_math_renderer = "mathml"


def _inline(translator, node):
    translator.body.append(tex2mathml(node.astext()))
    raise SkipNode


def _block(translator, node):
    translator.body.append(f'<div class="math">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise SkipNode


def _own_signature(app, what, name, thing, options, signature, returned):
    """Return the signature of a class's own `__init__`; otherwise Keras layers show (*args, **kwargs)."""
    if what != "class" or not inspect.isfunction(thing.__init__):
        return signature, returned
    own = inspect.signature(thing.__init__)
    return str(own.replace(parameters=list(own.parameters.values())[1:], return_annotation=own.empty)), returned


def setup(app):
    """Register the renderer of formulas and the signatures of classes."""
    app.connect("autodoc-process-signature", _own_signature)
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
