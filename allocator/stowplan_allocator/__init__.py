"""The decision where pods go, as a pure function: plan(snapshot, settings) -> Plan."""
