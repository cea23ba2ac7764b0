"""The console command `linearized`: one module per subcommand."""
