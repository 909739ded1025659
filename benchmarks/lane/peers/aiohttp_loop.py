"""Peer: aiokafka and aiohttp."""

import aiohttp

from benchmarks.lane.peers.keyed_loop import KeyedLoop, start
from benchmarks.lane.peers.settings import POST_LIMIT_S, settings


async def main() -> None:
    chosen = settings()
    url = f"{chosen.partner_url}/payments"
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=chosen.in_flight),
        timeout=aiohttp.ClientTimeout(total=POST_LIMIT_S),
        headers=headers,
    ) as session:

        async def post(body: bytes) -> bool:
            try:
                async with session.post(url, data=body) as answer:
                    await answer.read()
                    return answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                return False

        await KeyedLoop(chosen, post).run()


if __name__ == "__main__":
    start(main())
