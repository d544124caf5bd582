"""Built-in plugins: launchers, packagers, storages and backends."""
