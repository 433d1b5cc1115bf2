"""Publish what a camera sees over MQTT: presence of each word, commands, Home Assistant. docs/home.md."""
