"""Which tokens of which requests a step computes, and in which blocks: rules alone, no tensors.

Requests begin in order, while there are blocks for all that they know. A step holds one token of each that
generates, and prompts beside them as far as the budget goes. The oldest always gets its blocks: when none is
free the youngest gives all of its own back, waits in front, and later computes what it knows again.
"""

from collections import deque

from gpt.generate.block_pool import BlockPool
from gpt.generate.config import BatchConfig
from gpt.generate.request import Request


class Schedule:
    """The requests that wait and run, and their blocks."""

    def __init__(self, config: BatchConfig, n_blocks: int) -> None:
        self.config = config
        self.pool = BlockPool(n_blocks)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        """In the order in which they began: the last is the youngest."""
        self.n_preempted = 0
        """Times that a request gave its blocks back to be computed again."""

    def plan(self) -> dict[Request, int]:
        """Begin what can begin; return how many tokens of each request to compute. They have blocks."""
        self._admit()
        plan: dict[Request, int] = {}
        budget = self.config.max_prompt_tokens
        computing: set[bytes] = set()
        prompts = [request for request in self.running if request.n_fresh > 1]
        for request in [request for request in self.running if request.n_fresh == 1]:
            if self._is_held(request) and self._grow(request, 1, plan):
                plan[request] = 1
        for request in prompts:
            if not self._is_held(request):
                continue
            self._share(request)
            n = self._chunk(request, budget, computing)
            if n and self._grow(request, n, plan):
                plan[request] = n
                budget -= n
        return plan

    def computed(self, plan: dict[Request, int]) -> None:
        """Count a plan's tokens as computed; let others find the blocks that have become full."""
        size = self.config.block_tokens
        for request, n in plan.items():
            request.n_computed += n
            while self.config.reuse_prefixes and len(request.digests) < request.n_computed // size:
                request.digests.append(request.next_digest(request.digests, size))
                self.pool.keep(request.blocks[len(request.digests) - 1], request.digests[-1])

    def leave(self, request: Request) -> None:
        """Take a request out, running or waiting, and free its blocks; one that has left is no error."""
        if request in self.waiting:
            self.waiting.remove(request)
        if request in self.running:
            self.running.remove(request)
            self._free(request)

    def _is_held(self, request: Request) -> bool:
        """Return whether a request still runs: an older one may have taken its blocks in this step."""
        return request in self.running

    def _admit(self) -> None:
        """Begin waiting requests in order. With nothing running the first always fits."""
        while self.waiting and len(self.running) < self.config.max_running:
            promised = sum(map(self._missing, self.running))
            request = self.waiting[0]
            self._share(request)
            if self.running and self._missing(request) > self.pool.n_free - promised:
                self._free(request)
                return
            self.running.append(self.waiting.popleft())

    def _missing(self, request: Request) -> int:
        """Return how many blocks a request lacks to compute what it knows and one token more."""
        return -(-(len(request.known_ids) + 1) // self.config.block_tokens) - len(request.blocks)

    def _share(self, request: Request) -> None:
        """Give a request the kept blocks that it goes on with; its last token is always computed."""
        size = self.config.block_tokens
        while self.config.reuse_prefixes and request.n_fresh > size:
            digest = request.next_digest(request.digests, size)
            block = self.pool.share(digest)
            if block is None:
                return
            request.blocks.append(block)
            request.digests.append(digest)
            request.n_computed += size
            if not request.token_ids:
                request.n_cached_prompt_tokens += size

    def _chunk(self, request: Request, budget: int, computing: set[bytes]) -> int:
        """Return how many tokens of a prompt to compute: all that are left, or whole blocks.

        It stops in front of a block that another computes in this step (their digests are in `computing`):
        in the next step it is shared.
        """
        size = self.config.block_tokens
        n = request.n_fresh if request.n_fresh <= budget else budget // size * size
        digests = list(request.digests)
        for start in range(0, n - size + 1, size) if self.config.reuse_prefixes else ():
            digests.append(request.next_digest(digests, size))
            if digests[-1] in computing:
                return start
            computing.add(digests[-1])
        return n

    def _grow(self, request: Request, n: int, plan: dict[Request, int]) -> bool:
        """Give a request blocks for n more tokens, the youngest one's if need be; False if that is itself."""
        while len(request.blocks) * self.config.block_tokens < request.n_computed + n:
            block = self.pool.take()
            if block is not None:
                request.blocks.append(block)
                continue
            youngest = self.running[-1]
            plan.pop(youngest, None)
            self.leave(youngest)
            self.waiting.appendleft(youngest)
            self.n_preempted += 1
            if youngest is request:
                return False
        return True

    def _free(self, request: Request) -> None:
        """Let a request's blocks go; what it knows it keeps."""
        self.pool.drop(request.blocks)
        request.blocks, request.digests, request.n_computed = [], [], 0
        if not request.token_ids:
            request.n_cached_prompt_tokens = 0
