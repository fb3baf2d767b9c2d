"""The engine that the dials name. FSDP2 is imported only where it is used: that costs a second."""

from gpt.parallel.config import ParallelConfig
from gpt.parallel.engine import Engine, WholeModel
from gpt.parallel.process_group import ProcessGroup
from gpt.parallel.zero3_engine import Zero3Engine


def choose_engine(config: ParallelConfig, group: ProcessGroup) -> Engine:
    """Return an engine for the ranks that have met. Raises ValueError when others were asked for."""
    if config.ranks != group.world_size:
        raise ValueError(
            f"machine.parallel.ranks: got {config.ranks}, {group.world_size} ranks were started; "
            f"write {group.world_size}"
        )
    if group.world_size == 1:
        return WholeModel(group)
    if config.engine == "zero3":
        return Zero3Engine(group, config.experts)
    from gpt.parallel.fsdp2_engine import Fsdp2Engine

    return Fsdp2Engine(group)
