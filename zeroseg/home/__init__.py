"""What a camera sees, told to a home by MQTT: presence of each word, commands, Home Assistant. docs/home.md."""
