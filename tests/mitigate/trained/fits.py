"""Fits trained methods on a tiny pipeline with random weights, in this process."""

from dataclasses import replace

from safetensors.torch import save_file

from audit.calibration.bundle import BUNDLED
from audit.config.settings import AuditConfig
from audit.config.slices import MeasurementRequest
from audit.mitigate.registry import METHODS
from audit.mitigate.tools import fit_tools
from audit.models.generator import load_generator
from audit.planning.fits import TENSORS_FILE, fit_requests
from audit.records.work import Prompt
from tests.mitigate.fitting import UPPER_HALF

STEPS = 3
PROMPTS = tuple(Prompt(name, f"a face photo of a {name}", name) for name in ("doctor", "nurse"))
SHORT = {
    "latent_direction": {"images_per_group": 2, "steps": 4, "batch": 3},
    "h_distribution": {"images_per_group": 4, "strength": 100.0},
    "latent_editing": {"images_per_group": 1, "passes": 2, "batch": 3},
    "entanglement_free_attention": {"images_per_group": 2, "steps": 4, "batch": 3, "learning_rate": 0.05, "width": 4},
    "finetuning": {
        "rank": 2, "steps": 4, "images_per_step": 3, "noises": 4, "gradient_steps": 2, "learning_rate": 0.05,
        "images_at_once": 2, "networks": ("text_encoder", "denoiser"), "uncertainty": 0.35,
    },
}  # fmt: skip
"""Method → settings with which it is fitted in seconds."""


class InMemory:
    """A checkpoint that is not stored."""

    def __init__(self):
        self.state = {}

    def read(self):
        return self.state

    def write(self, state):
        self.state = {name: tensor.detach().clone() for name, tensor in state.items()}


def audit_of(source, method, attribute, **settings):
    """The config of an audit with one trained method; CLIP is that of the calibration model."""
    mitigation = {"name": "m", "method": method, "attribute": attribute, **SHORT[method], **settings}
    return AuditConfig(
        name="a",
        judge={"source": "zero-shot"},
        model={"source": str(source)},
        sampling={"steps": STEPS, "guidance": 2.0, "batch": 3, "scheduler": "DDIMScheduler"},
        quality={"clip": str(BUNDLED / "clip"), "outside": {}},
        mitigations=[mitigation],
    )


def tools_of(audit):
    """Everything of an audit but its segmenter, which knows no pictures of random networks."""
    generator = load_generator(audit.model, audit.sampling)
    tools = fit_tools(generator, MeasurementRequest.of(audit), audit.attributes, None)
    return replace(tools, outside=lambda: UPPER_HALF)


def fitted(audit, tools, checkpoint=None):
    """Fit the method of an audit, and return its request, examples and result."""
    [request] = fit_requests(MeasurementRequest.of(audit))
    fit = METHODS[request.mitigation.method].fit
    examples = [(prompt, fit.examples(tools, request, prompt)) for prompt in PROMPTS]
    return request, examples, fit.train(tools, request, examples, checkpoint or InMemory())


def ready(mitigation, tensors, directory):
    """Store a fit as the program does, and load it."""
    directory.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / TENSORS_FILE)
    return METHODS[mitigation.method].ready(mitigation, None, directory)
