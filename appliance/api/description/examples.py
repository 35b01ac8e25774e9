"""An example body for each operation that takes one, by the name of its handler. Tests decode every one."""

from typing import Any

EXAMPLES: dict[str, dict[str, Any]] = {
    "create_chat_completion": {
        "model": "accounts/fireworks/models/ember-chat",
        "messages": [{"role": "user", "content": "What is Hearth?"}],
        "max_tokens": 16,
    },
    "create_completion": {
        "model": "accounts/fireworks/models/ember-chat",
        "prompt": "Hearth is",
        "max_tokens": 16,
    },
    "create_message": {
        "model": "accounts/fireworks/models/ember-chat",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "What is Hearth?"}],
    },
    "create_embedding": {"model": "accounts/hearth/models/my-embedder", "input": ["What is Hearth?", "A fireplace."]},
    "create_rerank": {
        "model": "accounts/hearth/models/my-reranker",
        "query": "What is Hearth?",
        "documents": ["A fireplace.", "A kettle."],
        "top_n": 1,
    },
    "generate_image": {"prompt": "A red fox asleep beside a small fire", "width": 1024, "height": 1024, "seed": 7},
    "run_text_to_image": {"prompt": "A red fox asleep beside a small fire", "aspect_ratio": "16:9", "seed": 7},
    "create_image": {
        "model": "accounts/hearth/models/my-painter",
        "prompt": "A red fox asleep beside a small fire",
        "size": "1024x1024",
        "n": 2,
    },
    "create_model": {
        "modelId": "my-model",
        "model": {"displayName": "My model", "kind": "HF_BASE_MODEL"},
    },
    "get_model_upload_endpoint": {"filenameToSize": {"config.json": "612", "model.safetensors": "4718592"}},
    "create_deployment": {
        "baseModel": "accounts/fireworks/models/ember-chat",
        "displayName": "Blue",
        "minReplicaCount": 0,
        "maxReplicaCount": 1,
        "autoscalingPolicy": {"scaleToZeroWindow": "30m"},
    },
    "update_deployment": {"displayName": "Green", "maxReplicaCount": 2},
    "scale_deployment": {"replicaCount": 0},
    "undelete_deployment": {},
    "create_deployed_model": {
        "model": "accounts/hearth/models/my-addon",
        "deployment": "accounts/hearth/deployments/choir",
    },
    "update_deployed_model": {"default": True},
    "match_deployment_shape_versions": {
        "createDeploymentRequest": {
            "parent": "accounts/hearth",
            "deployment": {"baseModel": "accounts/fireworks/models/ember-chat"},
        }
    },
    "create_api_key": {"apiKey": {"displayName": "laptop"}},
    "delete_api_key": {"keyId": "k7fq2xw4mznb"},
    "create_lease": {"memoryBytes": 268435456, "duration": "10m", "command": "a program of mine"},
    "update_model": {"displayName": "My model", "public": False},
    "import_model": {"huggingFaceUrl": "https://huggingface.co/owner/name", "revision": "main"},
    "prepare_model": {"precision": "BF16"},
    "create_dataset": {
        "datasetId": "my-dataset",
        "dataset": {"displayName": "My dataset", "format": "CHAT", "exampleCount": "100"},
    },
    "update_dataset": {"displayName": "My dataset, better"},
    "get_dataset_upload_endpoint": {"filenameToSize": {"examples.jsonl": "104857600"}},
    "validate_dataset_upload": {},
    "split_dataset": {"chunkSize": "1000"},
    "create_deployment_shape": {
        "baseModel": "accounts/fireworks/models/ember-chat",
        "displayName": "Small",
        "presetType": "MINIMAL",
    },
    "update_deployment_shape": {"displayName": "Smaller"},
    "update_deployment_shape_version": {"public": False},
    "create_reservation": {
        "displayName": "Night runs",
        "acceleratorType": "NVIDIA_H100_80GB",
        "reservedCount": 1,
        "endTime": "2030-01-02T03:04:05Z",
    },
    "update_reservation": {"displayName": "Night and day"},
    "create_account": {"accountId": "acme", "account": {"displayName": "Acme", "email": "ada@example.com"}},
    "update_account": {"displayName": "Acme and sons"},
    "suspend_account": {"reason": "BLOCKED_BY_ABUSE_RULE"},
    "unsuspend_account": {},
    "create_user": {"displayName": "Ada", "email": "ada@example.com", "role": "user"},
    "update_user": {"role": "contributor"},
    "update_quota": {"value": "600"},
    "create_secret": {"name": "accounts/hearth/secrets/hub-token", "keyName": "HF_TOKEN", "value": "a-token"},
    "update_secret": {"value": "another-token"},
    "create_identity_provider": {
        "displayName": "Our sign-in",
        "oidcConfig": {"issuerUrl": "https://id.example.com", "clientId": "hearth", "clientSecret": "a-secret"},
        "tenantDomains": ["example.com"],
    },
    "update_identity_provider": {"displayName": "Our new sign-in"},
}
