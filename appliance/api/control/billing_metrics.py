"""What an account used as a table for spreadsheets, in the columns that `billing export-metrics` is known for.

Two more follow them, of what is no tokens."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web

from appliance.api.control.usage import BillingWindow
from appliance.api.control.wire import decode_query
from appliance.api.routing import Content, Permission, Route, principal, services
from appliance.services.usage import Dimension, ExportedRow

COLUMNS = (
    "email",
    "start_time",
    "end_time",
    "usage_type",
    "accelerator_type",
    "accelerator_seconds",
    "base_model_name",
    "model_bucket",
    "parameter_count",
    "prompt_tokens",
    "completion_tokens",
    "audio_input_seconds",
    "image_count",
)
BUCKETS = ((4e9, "0B-4B"), (16e9, "4B-16B"), (80e9, "16B-80B"))
"""Sizes of models, by their parameters."""
LARGEST_BUCKET = "80B+"


async def export_billing_metrics(request: web.Request) -> web.StreamResponse:
    """Get what was used as a table: a line for each day, user, model and type of device."""
    query = decode_query(request, BillingWindow)
    usage = services(request).accounting.usage
    account_id = request.match_info["account_id"]
    rows = await usage.export(principal(request), account_id, query.start_time, query.end_time)
    headers = {"Content-Disposition": 'attachment; filename="billing_metrics.csv"'}
    return web.Response(text=to_csv(rows), content_type="text/csv", headers=headers)


def to_csv(exported: Iterable[ExportedRow]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row, email, num_parameters in exported:
        writer.writerow(
            (
                email,
                _written(row.started_at),
                _written(row.ended_at),
                row.kind,
                row.group[Dimension.ACCELERATOR],
                round(row.accelerator_seconds),
                row.group[Dimension.MODEL],
                bucket_of(num_parameters),
                num_parameters or "",
                row.counts.num_prompt_tokens,
                row.counts.num_completion_tokens,
                row.counts.audio_ms / 1000,
                row.counts.num_images,
            )
        )
    return out.getvalue()


def bucket_of(num_parameters: int) -> str:
    if not num_parameters:
        return ""
    return next((name for bound, name in BUCKETS if num_parameters <= bound), LARGEST_BUCKET)


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


TABLE = Content("text/csv", f"Columns: {', '.join(COLUMNS)}.", is_text=True)

ROUTES = [
    Route(
        "GET",
        "/v1/accounts/{account_id}/billing:exportMetrics",
        export_billing_metrics,
        Permission.READ,
        answer=TABLE,
        query=BillingWindow,
    ),
]
