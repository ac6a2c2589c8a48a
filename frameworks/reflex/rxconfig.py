"""What Reflex reads first: the state is kept in the process."""

import reflex as rx

config = rx.Config(
    app_name="counter", state_manager_mode="memory", telemetry_enabled=False
)
