"""Settings: a customer changes autopay, paperless or an account link at IC, and IMT has the indicator.

IC change log           -> setting.changed -> IMT Settings -> setting.outcome -> enrollment.current
GET enrollments/account <- enrollment.current, whole in every replica
"""

from functools import partial

from services.bus.accounts import AccountsView
from services.bus.lane import Lane
from services.bus.service import Bus, Service
from services.bus.tables import Table
from services.bus.wire import load_wire
from services.events import EnrollmentCurrent, SettingChanged, SettingOutcome
from services.settings import handlers
from services.settings.change import ChangeReader, load_contract
from services.settings.imt import ImtSettings
from services.settings.intake import ChangeLog, EnrollmentView, routes


def build(bus: Bus) -> Service:
    accounts, enrollments = AccountsView(), EnrollmentView()
    reader = ChangeReader(load_contract(bus.settings.partners), bus.support)
    imt = ImtSettings(bus.partners, bus.billers, bus.secrets, load_wire(bus.settings.schemas).imt)
    return Service(
        name="settings",
        routers=[routes(ChangeLog(bus, reader, accounts, enrollments), reader, accounts, enrollments)],
        lanes=[
            Lane(
                name="settings.apply",
                reads=SettingChanged,
                deliver=partial(handlers.apply_setting, imt=imt, billers=bus.billers),
                ask=partial(handlers.find_setting, imt=imt, billers=bus.billers),
                patience=partial(handlers.patience_with_imt, imt=imt, billers=bus.billers),
                order=handlers.order_setting,
                writes=handlers.record_outcome,
            )
        ],
        views=[accounts, enrollments],
        tables=[Table(reads=SettingOutcome, into=EnrollmentCurrent, fold=handlers.fold_enrollment)],
    )
