"""For every route a call that does what the route is for, and the objects that it is done to.

A new collection needs a maker (`sample_objects.py`), a new POST, PUT or PATCH a body in BODIES; tests that go through
the route table fail with the name of a route that has none.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import aiohttp

from appliance.api.routing import Route
from appliance.config import GIB
from tests.appliance.api.conftest import DEVICES, READY_MODEL, Api
from tests.appliance.api.sample_objects import (
    DATASET_FILE,
    EXAMPLES,
    MAKERS,
    Maker,
    Making,
    Owner,
    make_deleted_deployment,
    make_deployment,
    make_key,
    make_painter_in_path,
    make_served_embedder,
    make_served_listener,
    make_served_model,
    make_served_painter,
    make_served_ranker,
    make_uploading_dataset,
    make_uploading_model,
    name_owner,
    new_id,
)

Ids = dict[str, str]
"""What stands in a path, by parameter."""
IMPORTED_FOLDER = str(Path(__file__).parent / "data")
"""Below one of the fixture's `import_roots`; that it holds no model is found later."""
_PARAMETER = re.compile(r"\{(\w+)(?::[^}]*)?\}")

A = "/v1/accounts/{account_id}"
IMAGES = "/inference/v1/image_generation/accounts/{account_id}/models/{model_id}"
WORKFLOWS = "/inference/v1/workflows/accounts/{account_id}/models/{model_id}"
VIDEOS = "/inference/v1/video_generation/accounts/{account_id}/models/{model_id}"
NOT_SERVED = (
    f"{IMAGES}/qr_code",
    WORKFLOWS,
    f"{WORKFLOWS}/get_result",
    f"{VIDEOS}/image_to_video",
    f"{VIDEOS}/animate",
)
IMAGE_FORMS: dict[str, dict[str, str | bytes]] = {
    f"{IMAGES}/image_to_image": {"init_image": b"P6 1 1 255 \0\0\0", "prompt": "Hello", "image_strength": "0.5"},
    f"{IMAGES}/control_net": {"control_image": b"P6 1 1 255 \0\0\0", "prompt": "Hello", "control_net_name": "canny"},
    f"{IMAGES}/canny_edge_detection": {"image": b"P6 1 1 255 \0\0\0"},
}
MODEL_IN_PATH = [IMAGES, f"{WORKFLOWS}/text_to_image", *IMAGE_FORMS, *NOT_SERVED]
OTHER_MAKERS: dict[str, Maker] = {
    **dict.fromkeys(MODEL_IN_PATH, make_painter_in_path),
    f"{A}/models/{{model_id}}:getUploadEndpoint": make_uploading_model,
    f"{A}/models/{{model_id}}:validateUpload": make_uploading_model,
    f"{A}/models/{{model_id}}:import": make_uploading_model,
    f"{A}/datasets/{{dataset_id}}:getUploadEndpoint": make_uploading_dataset,
    f"{A}/datasets/{{dataset_id}}:upload": make_uploading_dataset,
    f"{A}/datasets/{{dataset_id}}:validateUpload": make_uploading_dataset,
    f"{A}/deployments/{{deployment_id}}:undelete": make_deleted_deployment,
}
"""By path: of the last parameter, where the usual object would not do."""
OWN_USER = re.compile(r"/users/\{user_id\}/")
"""What is below a user is sampled for the owner himself."""


async def make_objects(api: Api, route: Route, owner: Owner) -> Ids:
    """All that the path names. Raises KeyError with the name of a parameter that has no maker."""
    ids = {"account_id": owner.account_id}
    names = [name for name in _PARAMETER.findall(route.path) if name != "account_id"]
    async with api.services.node.database.transaction() as tx:
        making = Making(tx, owner, api.services.config.data_dir)
        for name in names:
            maker = name_owner if name == "user_id" and OWN_USER.search(route.path) else MAKERS[name]
            if name == names[-1]:
                maker = OTHER_MAKERS.get(route.path, maker)
            ids[name] = await maker(making)
        for name, maker in NAMED_IN_BODY.get(key_of(route), {}).items():
            ids[name] = await maker(making)
    if "lease_id" in ids:
        await api.services.node.leases.restore()
    return ids


def image_form_at(path: str, ids: Ids) -> aiohttp.FormData:
    return image_form(IMAGE_FORMS[path])


def image_form(parts: Mapping[str, str | bytes]) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in parts.items():
        form.add_field(name, value, filename="image.ppm" if isinstance(value, bytes) else None)
    return form


MESSAGES = [{"role": "user", "content": "Hello"}]
QUOTA_SUBJECTS = (A, f"{A}/users/{{user_id}}", f"{A}/apiKeys/{{key_id}}")
BODIES: dict[str, Callable[[Ids], object]] = {
    "POST /inference/v1/chat/completions": lambda ids: {"model": ids["model"], "messages": MESSAGES},
    "POST /inference/v1/completions": lambda ids: {"model": ids["model"], "prompt": "Hello"},
    "POST /inference/v1/messages": lambda ids: {"model": ids["model"], "messages": MESSAGES, "max_tokens": 5},
    "POST /inference/v1/embeddings": lambda ids: {"model": ids["model"], "input": "Hello"},
    "POST /inference/v1/rerank": lambda ids: {"model": ids["model"], "query": "Hello", "documents": ["Hi", "No"]},
    **{
        f"POST /inference/v1/audio/{route}": lambda ids: sound_form(ids["model"])
        for route in ("transcriptions", "translations", "alignments")
    },
    f"POST {IMAGES}": lambda ids: {"prompt": "Hello"},
    f"POST {WORKFLOWS}/text_to_image": lambda ids: {"prompt": "Hello"},
    **{f"POST {path}": partial(image_form_at, path) for path in IMAGE_FORMS},
    **{f"POST {path}": lambda ids: {} for path in NOT_SERVED},
    "POST /inference/v1/images/generations": lambda ids: {"model": ids["model"], "prompt": "Hello"},
    "POST /inference/v1/images/edits": lambda ids: image_form(
        {"image": b"P6 1 1 255 \0\0\0", "model": ids["model"], "prompt": "Hello"}
    ),
    "POST /v1/accounts": lambda ids: {"accountId": new_id()},
    f"PATCH {A}": lambda ids: {"displayName": "New"},
    f"POST {A}:suspend": lambda ids: {},
    f"POST {A}:unsuspend": lambda ids: {},
    f"POST {A}/users": lambda ids: {"role": "user", "email": f"{new_id()}@example.com"},
    f"PATCH {A}/users/{{user_id}}": lambda ids: {"displayName": "New"},
    f"POST {A}/users/{{user_id}}/apiKeys": lambda ids: {"apiKey": {"displayName": "ci"}},
    f"POST {A}/users/{{user_id}}/apiKeys:delete": lambda ids: {"keyId": ids["key_id"]},
    f"POST {A}/apiKeys": lambda ids: {"apiKey": {"displayName": "ci"}},
    f"POST {A}/apiKeys:delete": lambda ids: {"keyId": ids["key_id"]},
    f"POST {A}/secrets": lambda ids: {"name": new_id(), "keyName": "TOKEN", "value": "v"},
    f"PATCH {A}/secrets/{{secret_id}}": lambda ids: {"value": "w"},
    f"POST {A}/identityProviders": lambda ids: {
        "oidcConfig": {"issuerUrl": "https://login.example.com", "clientId": "hearth", "clientSecret": "s"},
        "tenantDomains": [f"{new_id()}.example.com"],
    },
    f"PATCH {A}/identityProviders/{{identity_provider_id}}": lambda ids: {"displayName": "New"},
    f"POST {A}/models": lambda ids: {"modelId": new_id(), "model": {"kind": "HF_BASE_MODEL", "baseModelDetails": {}}},
    f"PATCH {A}/models/{{model_id}}": lambda ids: {"displayName": "New"},
    f"POST {A}/models/{{model_id}}:prepare": lambda ids: {"precision": "BF16"},
    f"POST {A}/models/{{model_id}}:getUploadEndpoint": lambda ids: {"filenameToSize": {"config.json": 2}},
    f"POST {A}/models/{{model_id}}:import": lambda ids: {"localPath": IMPORTED_FOLDER},
    f"POST {A}/operations/{{operation_id}}:cancel": lambda ids: {},
    f"POST {A}/datasets": lambda ids: {"datasetId": new_id(), "dataset": {}},
    f"PATCH {A}/datasets/{{dataset_id}}": lambda ids: {"displayName": "New"},
    f"POST {A}/datasets/{{dataset_id}}:getUploadEndpoint": lambda ids: {"filenameToSize": {DATASET_FILE: 10}},
    f"POST {A}/datasets/{{dataset_id}}:upload": lambda ids: dataset_form(),
    f"POST {A}/datasets/{{dataset_id}}:validateUpload": lambda ids: {},
    f"POST {A}/datasets/{{dataset_id}}:splitDataset": lambda ids: {"chunkSize": 2},
    f"POST {A}/deployments": lambda ids: {"baseModel": READY_MODEL},
    f"PATCH {A}/deployments/{{deployment_id}}": lambda ids: {"displayName": "New"},
    f"PATCH {A}/deployments/{{deployment_id}}:scale": lambda ids: {"replicaCount": 0},
    f"POST {A}/deployments/{{deployment_id}}:undelete": lambda ids: {},
    f"POST {A}/deployedModels": lambda ids: {"model": READY_MODEL, "deployment": ids["deployment_id"]},
    f"PATCH {A}/deployedModels/{{deployed_model_id}}": lambda ids: {"displayName": "New"},
    f"POST {A}/deploymentShapes": lambda ids: {"baseModel": READY_MODEL},
    f"PATCH {A}/deploymentShapes/{{deployment_shape_id}}": lambda ids: {"displayName": "New"},
    f"PATCH {A}/deploymentShapes/{{deployment_shape_id}}/versions/{{version_id}}": lambda ids: {"public": True},
    f"POST {A}/deploymentShapeVersions:match": lambda ids: {
        "createDeploymentRequest": {"deployment": {"baseModel": READY_MODEL}}
    },
    f"POST {A}/reservations": lambda ids: {"acceleratorType": DEVICES[0].accelerator_type, "reservedCount": 1},
    f"PATCH {A}/reservations/{{reservation_id}}": lambda ids: {"displayName": "New"},
    **{f"PATCH {subject}/quotas/{{quota_id}}": lambda ids: {"value": "1000000"} for subject in QUOTA_SUBJECTS},
    "PUT /v1/uploads/{token}/{filename:.+}": lambda ids: {},
    "POST /v1/node/leases": lambda ids: {"memoryBytes": GIB, "duration": "60s", "waitTimeout": "60s"},
    "POST /v1/node/leases/{lease_id}:renew": lambda ids: {},
}
"""By method and path: the body that makes the request do what the route is for."""
SPAN = "?startTime=2026-01-01T00:00:00Z&endTime=2026-01-02T00:00:00Z"
QUERIES = {
    f"GET {A}/billingUsage": SPAN,
    f"GET {A}/accountUsageFilterOptions": SPAN,
    f"GET {A}/billing/summary": SPAN,
    f"GET {A}/billing:exportMetrics": SPAN,
    f"DELETE {A}/deployments/{{deployment_id}}": "?ignoreChecks=true",
}
NAMED_IN_BODY: dict[str, dict[str, Maker]] = {
    "POST /inference/v1/chat/completions": {"model": make_served_model},
    "POST /inference/v1/completions": {"model": make_served_model},
    "POST /inference/v1/messages": {"model": make_served_model},
    "POST /inference/v1/embeddings": {"model": make_served_embedder},
    "POST /inference/v1/rerank": {"model": make_served_ranker},
    **{
        f"POST /inference/v1/audio/{route}": {"model": make_served_listener}
        for route in ("transcriptions", "translations", "alignments")
    },
    "POST /inference/v1/images/generations": {"model": make_served_painter},
    "POST /inference/v1/images/edits": {"model": make_served_painter},
    f"POST {A}/users/{{user_id}}/apiKeys:delete": {"key_id": make_key},
    f"POST {A}/apiKeys:delete": {"key_id": make_key},
    f"POST {A}/deployedModels": {"deployment_id": make_deployment},
}
"""Objects that the body names, not the path."""


def dataset_form() -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("file", EXAMPLES, filename=DATASET_FILE)
    return form


def sound_form(model: str) -> aiohttp.FormData:
    form = aiohttp.FormData({"model": model, "text": "Hello"})
    form.add_field("file", b"RIFF", filename="hello.wav")
    return form


def names_an_object(route: Route) -> bool:
    """Whose it is makes a difference."""
    return bool(set(_PARAMETER.findall(route.path)) - {"account_id"}) or key_of(route) in NAMED_IN_BODY


def key_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def has_sample(route: Route) -> bool:
    names = set(_PARAMETER.findall(route.path)) - {"account_id"}
    return names <= set(MAKERS) and (route.method in ("GET", "DELETE") or key_of(route) in BODIES)


async def send(api: Api, route: Route, ids: Ids, headers: dict[str, str]) -> int:
    """Do what the route is for; the status."""
    path = _PARAMETER.sub(lambda name: ids[name[1]], route.path) + QUERIES.get(key_of(route), "")
    body = BODIES[key_of(route)](ids) if key_of(route) in BODIES else None
    content = {"data": body} if isinstance(body, aiohttp.FormData) else {"json": body} if body is not None else {}
    async with api.session.request(route.method, path, headers=headers, **content) as response:
        await response.read()
        return response.status
