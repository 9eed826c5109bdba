"""Templates as they lie in a cluster: KernelTemplate objects.

How such an object is read does not depend on a cluster (:mod:`jupyter_elastic.templates.objects`);
here is only where it comes from.
"""

from __future__ import annotations

from ...podoptions import API_VERSION, GROUP
from ...templates.objects import KIND, template_from_object

PLURAL = "kerneltemplates"

__all__ = ["API_VERSION", "GROUP", "KIND", "PLURAL", "template_from_object"]
