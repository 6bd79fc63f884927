"""What is used is counted, by the kernel and by meters; what it costs follows from the rates alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

from retrainer.cost import Usage, in_words, number, of_runs, of_tags, priced, short
from retrainer.errors import UserError
from retrainer.registry.judgement_tags import judgement_tags
from retrainer.services.meter import Meter, Nvml, Rapl, cpu_seconds
from retrainer.settings import Evaluation, Rates
from retrainer.training._torchrun import Launched, _hear

GPU = Usage(hours=2, cpu_hours=3, gpu_hours=4, metered_kwh=1.5, unmetered_cpu_hours=3)
RATES = {"currency": "EUR", "per_gpu_hour": 2.5, "per_cpu_hour": 0.05, "per_kwh": 0.3, "co2_kg_per_kwh": 0.4}


def rates(**given: object) -> Rates:
    return Evaluation.parse({"cost": given}, "evaluation").cost


# --- the rates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"per_kwh": 0.3}, "no currency; add currency: EUR"),
        ({"currency": "EUR"}, "no price; add per_gpu_hour"),
        ({"currency": "euro", "per_kwh": 0.3}, r"evaluation\.cost\.currency"),
        ({"co2_kg_per_kwh": 380}, r"evaluation\.cost\.co2_kg_per_kwh"),
        ({"per_gpu_hour": -1, "currency": "EUR"}, r"evaluation\.cost\.per_gpu_hour"),
        ({"cpu_watts": 0}, r"evaluation\.cost\.cpu_watts"),
        ({"per_watt": 1}, r"unknown setting evaluation\.cost\.per_watt"),
    ],
)
def test_rates_that_make_no_sense_are_refused_by_name(given: dict[str, object], why: str) -> None:
    with pytest.raises(UserError, match=why):
        rates(**given)


def test_money_and_co2_follow_from_hours_and_energy() -> None:
    cost = priced(GPU, rates(**RATES, cpu_watts=100))
    assert cost["kwh"] == 1.8 and cost["metered_kwh"] == 1.5
    assert cost["money"] == pytest.approx(4 * 2.5 + 3 * 0.05 + 1.8 * 0.3)
    assert cost["co2_kg"] == pytest.approx(1.8 * 0.4)
    assert in_words(cost) == "4.0 GPU-hours, 3.0 core-hours, 1.8 kWh (83% metered), 10.69 EUR, 720 g CO2"
    assert short(cost) == "10.69 EUR"


def test_without_rates_there_are_hours_and_energy_alone() -> None:
    cost = priced(Usage(hours=0.01, cpu_hours=0.02, unmetered_cpu_hours=0.02), rates())
    assert not {"money", "currency", "co2_kg"} & cost.keys()
    assert in_words(cost) == "0.020 core-hours, 0.080 Wh (estimated)"
    assert short(cost) == "0.020 core-hours" and of_runs(cost) == ""


def test_a_gpu_that_nothing_meters_is_said_to_be_left_out() -> None:
    unmetered = Usage(hours=1, cpu_hours=1, gpu_hours=1, metered_kwh=0.05, unmetered_gpu_hours=1)
    assert (
        in_words(priced(unmetered, rates()))
        == "1.0 GPU-hours, 1.0 core-hours, 50 Wh (metered, without the GPUs')"
    )
    assert "350 Wh (14% metered)" in in_words(priced(unmetered, rates(gpu_watts=300)))


def test_usages_of_several_processes_add_up() -> None:
    assert GPU.scaled(2) == GPU + GPU
    assert Usage.of_metrics(GPU.metrics()) == GPU and Usage.of_metrics({"train_loss": 1.0}) is None
    with pytest.raises(ValueError, match="not below 0"):
        Usage.of_plain({"hours": float("nan")})


def test_a_version_tells_its_cost_by_its_tags() -> None:
    cost = priced(GPU, rates(**RATES), runs=3, unfinished=2)
    tags = judgement_tags({"gate": {}, "training_cost": cost})
    assert tags["training_cost.money"] and tags["training_cost.currency"] == "EUR"
    assert of_tags(tags) == pytest.approx(cost)
    assert of_runs(cost) == "3 runs, 2 of them interrupted or failed"
    assert of_tags({"training_cost.kwh": "1"}) is None and of_tags({}) is None
    assert of_tags(judgement_tags({"gate": {}, "training_cost": None})) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.0213, "0.021"),
        (0.00049, "0.00049"),
        (3.44, "3.4"),
        (99.6, "100"),
        (1250, "1,250"),
        (1, "1.0"),
    ],
)
def test_two_digits_are_said(value: float, said: str) -> None:
    assert number(value) == said


# --- what the kernel counts ----------------------------------------------------------------------------

BUSY = """
import sys, time
while time.process_time() < 0.2: pass
print(time.process_time(), flush=True)
if sys.argv[1:]: sys.stdin.read()
"""


def test_processes_that_have_ended_and_that_still_run_count() -> None:
    meter = Meter()
    ended = float(subprocess.run([sys.executable, "-c", BUSY], capture_output=True, check=True).stdout)
    words = [sys.executable, "-c", BUSY, "wait"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as alive:
        assert alive.stdout is not None
        running = float(alive.stdout.readline())
        used = meter.read()
        alive.communicate(b"")
    assert 3600 * used.cpu_hours > ended + running - 0.05  # counted in hundredths of a second
    assert used.gpu_hours == 0 and used.hours > 0
    assert meter.read().cpu_hours >= used.cpu_hours
    assert cpu_seconds() >= ended + running - 0.05


def test_a_process_of_torchrun_tells_the_first_one_what_it_used() -> None:
    """Through a store of torch's own, as torchrun has one."""
    first, second = Meter(), Meter()
    alone = first.read()
    store = dist.HashStore()
    place = Launched(rank=0, size=3, local_rank=0, local_size=3, attempt=0)
    _hear(store, place, first)
    store.set("used/1", second.told())
    store.set("used/2", '{"cpu_hours": 7, "hours": 0, "gpu_hours": 2}')
    _hear(store, place, first)
    _hear(store, place, first)  # what is heard again is not added again
    both = first.read()
    assert 7 <= both.cpu_hours - alone.cpu_hours < 7.1 and both.gpu_hours == 2
    assert both.hours < 0.1, "the clock of one process is the clock of all"
    store.set("used/2", "no usage")
    _hear(store, place, first)
    assert first.read().gpu_hours == 2


def used_something(meter: Meter) -> Usage:
    """The kernel counts in hundredths of a second."""
    while not meter.read().cpu_hours:
        pass
    return meter.read()


# --- meters --------------------------------------------------------------------------------------------


class Powercap:
    """As the kernel lays it out (Documentation/power/powercap/powercap.rst), and its links in /sys/class."""

    RANGE = 262_143_328_850

    def __init__(self, folder: Path) -> None:
        self.devices, self.links, self.stat = folder / "devices", folder / "class", folder / "stat"
        self.links.mkdir(parents=True)
        (self.links / "intel-rapl").mkdir()
        for zone, name in {
            "intel-rapl:0": "package-0",
            "intel-rapl:0/intel-rapl:0:0": "core",
            "intel-rapl:0/intel-rapl:0:1": "uncore",
            "intel-rapl:0/intel-rapl:0:2": "dram",
            "intel-rapl:1": "package-1",
            "intel-rapl:2": "psys",
        }.items():
            place = self.devices / "intel-rapl" / zone
            place.mkdir(parents=True)
            (place / "name").write_text(f"{name}\n")
            (place / "max_energy_range_uj").write_text(f"{self.RANGE}\n")
            (place / "energy_uj").write_text("0\n")
            (self.links / place.name).symlink_to(place)
        (self.links / "intel-rapl-mmio:0").symlink_to(self.devices / "intel-rapl" / "intel-rapl:0")
        self.busy(0)

    def set(self, zone: str, joules: float) -> None:
        (self.links / zone / "energy_uj").write_text(f"{round(joules * 1e6)}\n")

    def busy(self, seconds: int) -> None:
        """/proc/stat in proc(5)'s order: user nice system idle iowait irq softirq steal guest guest_nice."""
        self.stat.write_text(f"cpu  {seconds * 100} 0 0 99999 777 0 0 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")

    def rapl(self) -> Rapl:
        return Rapl(self.links, self.stat)


@pytest.fixture
def powercap(tmp_path: Path) -> Powercap:
    return Powercap(tmp_path)


def test_packages_and_memory_count_and_their_parts_not_again(powercap: Powercap) -> None:
    rapl = powercap.rapl()
    powercap.busy(10)
    for zone in ("0", "0:0", "0:1", "0:2", "1", "2"):
        powercap.set(f"intel-rapl:{zone}", 100)
    assert rapl.joules(cpu=10.0) == pytest.approx(300)  # both packages, and one's memory


def test_a_busy_neighbour_pays_for_its_share(powercap: Powercap) -> None:
    rapl = powercap.rapl()
    powercap.busy(40)
    powercap.set("intel-rapl:0", 100)
    assert rapl.joules(cpu=10.0) == pytest.approx(25)
    powercap.busy(50)
    powercap.set("intel-rapl:0", 180)
    assert rapl.joules(cpu=20.0) == pytest.approx(25 + 80)


def test_a_counter_that_turns_over_goes_on(powercap: Powercap) -> None:
    powercap.set("intel-rapl:0", powercap.RANGE / 1e6 - 5)
    rapl = powercap.rapl()
    powercap.busy(1)
    powercap.set("intel-rapl:0", 7)
    assert rapl.joules(cpu=1.0) == pytest.approx(12)


def test_counters_that_nobody_may_read_meter_nothing(powercap: Powercap, tmp_path: Path) -> None:
    assert Rapl(tmp_path / "nowhere").joules(1.0) is None
    rapl = powercap.rapl()
    for zone in powercap.links.iterdir():
        (zone / "energy_uj").unlink(missing_ok=True)
    assert rapl.joules(1.0) is None
    assert powercap.rapl().joules(1.0) is None
    used = used_something(Meter(tmp_path / "nowhere"))
    assert used.metered_kwh == 0 and used.unmetered_cpu_hours == used.cpu_hours


def test_this_machines_own_counters_are_read_or_said_to_be_missing() -> None:
    used = used_something(Meter())
    assert (used.unmetered_cpu_hours == 0) == (Rapl().joules(1.0) is not None)


def test_without_a_driver_gpus_are_hours_without_a_meter() -> None:
    """NVIDIA's own package, which finds no library here."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        pass
    else:
        pytest.skip("there is a driver")
    assert Nvml([]).joules() == 0.0
    assert Nvml(["GPU-00000000-0000-0000-0000-000000000000"]).joules() is None
    meter = Meter()
    meter.hold(["GPU-a", "GPU-b"])
    used = meter.read()
    assert used.gpu_hours == used.unmetered_gpu_hours
    assert 0 < used.gpu_hours <= 2 * used.hours
