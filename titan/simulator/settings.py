"""What the kernel is told of a simulation: the order of the queue, the policy, nothing kept."""

from __future__ import annotations

from titan.manager.kernel import Settings


def kernel_settings(*, order: str, policy: str) -> Settings:
    """Nothing is sent ahead of a slot, and jobs that ended are forgotten with the next tick."""
    return Settings(policy=policy, order=order, lookahead=False, forget_over=0)
