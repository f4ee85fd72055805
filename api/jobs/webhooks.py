"""Who asked for it is told that a job has ended: signed, and again until somebody listens.

Signatures follow Standard Webhooks (https://www.standardwebhooks.com, specification 1.0.0). A
target is a stranger's word: its name is resolved once, addresses within our own networks are
refused, and the connection goes to the very address that was looked at. Redirects aren't followed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import socket
import time
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx
import structlog

from api.errors import InvalidOption, NotFound, StoreUnavailable
from api.jobs.schemas import JobResponse
from api.metrics import Metrics
from api.store.jobs import Job, JobStore

log = structlog.get_logger(__name__)

TIMEOUT_S = 10.0

LONGEST_URL = 2048

FURTHER_ATTEMPTS = 7
PAUSE_FACTOR = 5.0
"""With 5 s at first: 5 s, 25 s, 2 min, 10 min, 52 min, 4 h, 22 h."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""An IPv4 address in IPv6's clothes (RFC 6052, section 2.1)."""


def pauses_s(first_s: float) -> list[float]:
    """Pauses between a webhook's attempts, each longer than the one before."""
    return [first_s * PAUSE_FACTOR**number for number in range(FURTHER_ATTEMPTS)]


def sign(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """The signature header: HMAC-SHA256 over id, time and body, as base64 behind its version.

    A secret that begins with "whsec_" is base64 from there on; any other is taken as it is.
    """
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def check_url(url: str, *, allow_private: bool) -> None:
    """Refuse at once what could never be delivered; names are looked up only then.

    Raises:
        InvalidOption: no URL of the web, or an address that isn't the public network's.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise InvalidOption("The webhook's URL is none", webhook_url="Not a URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or len(url) > LONGEST_URL:
        raise InvalidOption(
            "The webhook's URL can't be called", webhook_url="http:// or https:// and a host"
        )
    if parsed.userinfo:
        raise InvalidOption(
            "The webhook's URL holds a password", webhook_url="Signatures tell who is calling"
        )
    try:
        address = ip_address(parsed.host)
    except ValueError:
        return
    if not allow_private and not is_public(address):
        raise InvalidOption(
            "The webhook's URL is not on the public network", webhook_url=parsed.host
        )


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is reached over the public network, whatever it is wrapped in."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.teredo is not None:
            inner = address.teredo[1]
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


class Refused(Exception):
    """The target isn't one that is called."""


class WebhookSender:
    """Delivers at least once: each job's delivery carries one id, by which doubles are known."""

    def __init__(
        self,
        jobs: JobStore,
        metrics: Metrics,
        *,
        secret: str | None,
        allow_private: bool,
        attempts: int,
    ) -> None:
        self._jobs = jobs
        self._metrics = metrics
        self._secret = secret
        self._allow_private = allow_private
        self._attempts = attempts
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def deliver(self, job_id: str, attempt: int) -> bool:
        """Try for the nth time; True when there is nothing left to do."""
        while True:
            try:
                return await self._deliver(await self._jobs.get(job_id), attempt)
            except NotFound:
                return True
            except StoreUnavailable as error:
                await asyncio.sleep(error.retry_after_s)

    async def _deliver(self, job: Job, attempt: int) -> bool:
        if job.webhook is None or job.webhook.status == "delivered":
            return True
        try:
            status = await self._post(job, job.webhook.url)
            delivered, gone = 200 <= status < 300, status == 410
            reason = f"HTTP {status}"
        except (httpx.HTTPError, OSError, Refused) as error:
            delivered = gone = False
            reason = f"{type(error).__name__}: {error}"
        last = gone or attempt >= self._attempts
        outcome = "delivered" if delivered else "failed" if last else "enqueued"
        await self._jobs.webhook(job.id, outcome, attempt)
        self._metrics.webhook_deliveries.labels("delivered" if delivered else "failed").inc()
        if not delivered:
            log.warning("webhook_failed", job=job.id, attempt=attempt, reason=reason, last=last)
        return delivered or last

    async def _post(self, job: Job, url: str) -> int:
        """
        Raises:
            httpx.HTTPError, OSError, Refused: nobody could be asked.
        """
        if self._secret is None:
            raise Refused("WEBHOOK_SECRET is not set any more")
        body = _body(job)
        delivery_id, timestamp = f"job_{job.id}", int(time.time())
        target = httpx.URL(url)
        request = self._client.build_request(
            "POST",
            target.copy_with(host=await self._resolve(target)),
            content=body,
            headers={
                "Host": target.netloc.decode("ascii"),
                "Content-Type": "application/json",
                "User-Agent": "voice-analytics",
                "Webhook-Id": delivery_id,
                "Webhook-Timestamp": str(timestamp),
                "Webhook-Signature": sign(self._secret, delivery_id, timestamp, body),
            },
            extensions={"sni_hostname": target.host},
        )
        answer = await self._client.send(request, stream=True)
        await answer.aclose()  # what it says is not wanted, however long it is
        return answer.status_code

    async def _resolve(self, target: httpx.URL) -> str:
        """An address of the target that may be called.

        Raises:
            OSError: the name is unknown.
            Refused: it has none that may be called.
        """
        port = target.port or (443 if target.scheme == "https" else 80)
        found = await asyncio.get_running_loop().getaddrinfo(
            target.host, port, type=socket.SOCK_STREAM
        )
        for *_, address in found:
            if self._allow_private or is_public(ip_address(str(address[0]).partition("%")[0])):
                return str(address[0])
        raise Refused(f"{target.host} is not on the public network")


def _body(job: Job) -> bytes:
    data = JobResponse.model_validate(job).model_dump_json(exclude={"webhook"})
    moment = job.finished_at.isoformat() if job.finished_at else ""
    return f'{{"type":"job.{job.status}","timestamp":"{moment}","data":{data}}}'.encode()


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return secret.encode()
