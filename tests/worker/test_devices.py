"""Which devices there are, and who has which."""

from __future__ import annotations

import re

import pytest

from tests.worker.builders import key
from titan.errors import InvalidJob
from titan.model import Resources
from titan.rpc.v1 import task_pb2
from titan.worker.agent.capacity import Offer
from titan.worker.agent.device_ids import DEVICES_MAX, parse_resource
from titan.worker.host.devices import Devices
from titan.worker.messages import OfferedDevices

GPUS = (("gpu", ("0", "1", "2")),)


def offered(devices: OfferedDevices = GPUS) -> Devices:
    made = Devices()
    made.offer(devices)
    return made


def gpus(count: int) -> tuple[tuple[str, int], ...]:
    return (("gpu", count),)


# Who has which ----------------------------------------------------------------------------------


def test_each_gets_the_first_that_are_free_and_they_are_given_again() -> None:
    devices = offered()
    assert devices.take(key(1), gpus(2)) == (("gpu", ("0", "1")),)
    assert devices.take(key(2), gpus(1)) == (("gpu", ("2",)),)
    assert devices.give_back(key(1))
    assert devices.take(key(3), gpus(1)) == (("gpu", ("0",)),)
    assert devices.give_back(key(2))
    assert devices.take(key(4), gpus(2)) == (("gpu", ("1", "2")),)
    assert devices.held() == {key(3): (("gpu", ("0",)),), key(4): (("gpu", ("1", "2")),)}


def test_named_devices_are_given_in_the_order_in_which_they_were_named() -> None:
    devices = offered((("gpu", ("7", "GPU-abc", "2", "10")),))
    assert devices.take(key(1), gpus(1)) == (("gpu", ("7",)),)
    assert devices.take(key(2), gpus(3)) == (("gpu", ("GPU-abc", "2", "10")),)


def test_more_than_are_free_do_not_suffice() -> None:
    devices = offered((("fpga", ("0",)), ("gpu", ("0", "1"))))
    assert devices.suffice((("fpga", 1), ("gpu", 2)))
    devices.take(key(1), (("fpga", 1), ("gpu", 1)))
    assert devices.suffice(gpus(1))
    assert not devices.suffice(gpus(2))
    assert not devices.suffice((("fpga", 1), ("gpu", 1)))
    assert not devices.suffice((("tape", 1),))


def test_what_is_only_counted_always_suffices_and_has_no_devices() -> None:
    devices = offered((("gpu", ("0",)), ("licence", None)))
    asked = (("gpu", 1), ("licence", 1_000_000))
    assert devices.suffice(asked)
    assert devices.take(key(), asked) == (("gpu", ("0",)),)


def test_where_nothing_is_known_of_devices_nobody_waits_for_one() -> None:
    for devices in (Devices(), offered(None)):
        assert devices.suffice(gpus(9))
        assert devices.take(key(), gpus(9)) == ()
        assert devices.take(key(2), ()) == ()
        assert not devices.give_back(key())


def test_who_asks_for_no_gpu_is_told_that_it_has_none_where_there_are_some() -> None:
    devices = offered((("fpga", ("0",)), *GPUS))
    assert devices.take(key(1), ()) == (("gpu", ()),)
    assert devices.take(key(2), (("fpga", 1),)) == (("fpga", ("0",)), ("gpu", ()))
    assert not devices.give_back(key(1))
    assert offered((("gpu", None),)).take(key(), ()) == ()
    assert offered((("fpga", ("0",)),)).take(key(), ()) == ()


def test_what_tasks_have_stays_theirs_whatever_is_offered_then() -> None:
    devices = offered()
    devices.take(key(1), gpus(2))
    devices.offer((("gpu", ("5", "1", "0")),))
    assert devices.take(key(2), gpus(1)) == (("gpu", ("5",)),)
    assert not devices.suffice(gpus(1))
    devices.offer((("gpu", ("1",)),))
    assert not devices.suffice(gpus(1))
    assert devices.give_back(key(1))
    assert devices.take(key(3), gpus(1)) == (("gpu", ("1",)),)
    assert not devices.suffice(gpus(1))
    devices.offer(())
    assert not devices.suffice(gpus(1))
    devices.offer(GPUS)
    assert devices.take(key(4), gpus(2)) == (("gpu", ("0", "2")),)


# Which there are --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu=2", ("gpu", 2, ())),
        ("gpu=0", ("gpu", 0, ())),
        ("licence=1000000", ("licence", 1_000_000, ())),
        ("gpu=[0,2,GPU-abc]", ("gpu", 3, ("0", "2", "GPU-abc"))),
        ("gpu=[ 7 ]", ("gpu", 1, ("7",))),
        ("gpu=[MIG-GPU-8932f937/1/0]", ("gpu", 1, ("MIG-GPU-8932f937/1/0",))),
    ],
)
def test_a_resource_is_a_count_or_the_ids_of_its_devices(
    text: str, expected: tuple[str, int, tuple[str, ...]]
) -> None:
    assert parse_resource(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gpu", "'gpu' is no resource: write it as NAME=COUNT or NAME=[ID,ID,…], such as gpu=2"),
        ("=2", "'=2' is no resource"),
        ("=[2]", "'=[2]' is no resource"),
        ("gpu=-1", "'gpu=-1' is no resource"),
        ("gpu=[0,2", "'gpu=[0,2' is no resource"),
        ("gpu=[]", "'' is no device of gpu"),
        ("gpu=[a b]", "'a b' is no device of gpu: an id has letters, digits and -_.:/@+"),
        ("gpu=[0,1,0]", "the device 0 of gpu is named twice"),
        (
            f"gpu=[{','.join(map(str, range(DEVICES_MAX + 1)))}]",
            "gpu can have 1 to 1024 devices, not 1025",
        ),
    ],
)
def test_what_is_no_resource_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        parse_resource(text)


OFFER = Offer(
    Resources(1000, 0, (("disk", DEVICES_MAX + 1), ("fpga", 1), ("gpu", 2))),
    (),
    (("gpu", ("4", "7")),),
)


def test_an_offer_has_the_devices_that_were_named_or_counted_and_no_long_lists() -> None:
    assert OFFER.devices == (("disk", None), ("fpga", ("0",)), ("gpu", ("4", "7")))


def changed(**change: object) -> Offer:
    return OFFER.changed(task_pb2.UpdateWorkerRequest(**change))  # type: ignore[arg-type]


def test_an_offer_changes_by_what_is_named_and_the_rest_stays() -> None:
    assert changed(cpus_milli=2000).devices == OFFER.devices
    assert changed(named={"gpu": 3}).devices == (
        *OFFER.devices[:2],  # type: ignore[index]
        ("gpu", ("0", "1", "2")),
    )
    assert changed(named={"gpu": 0, "disk": 0}).devices == (("fpga", ("0",)),)
    more = changed(devices={"fpga": task_pb2.DeviceIds(ids=["b", "a"])})
    assert more.capacity.named == (("disk", DEVICES_MAX + 1), ("fpga", 2), ("gpu", 2))
    assert more.devices == (("disk", None), ("fpga", ("b", "a")), ("gpu", ("4", "7")))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"devices": {"gpu": task_pb2.DeviceIds()}}, "gpu can have 1 to 1024 devices, not 0"),
        (
            {"devices": {"gpu": task_pb2.DeviceIds(ids=["1"])}, "named": {"gpu": 2}},
            "gpu has 1 devices and not 2",
        ),
        (
            {"devices": {"cpus": task_pb2.DeviceIds(ids=["1"])}},
            "a worker cannot have cpus=1",
        ),
    ],
)
def test_devices_that_no_worker_can_have_are_refused(
    change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InvalidJob, match=sentence):
        changed(**change)
