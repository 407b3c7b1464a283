"""`clusterd completion`: the script that makes a shell complete commands and options."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
      bash:  eval "$(clusterd completion bash)"                       in ~/.bashrc
      zsh:   eval "$(clusterd completion zsh)"                        in ~/.zshrc
      fish:  clusterd completion fish > ~/.config/fish/completions/clusterd.fish
    """
    from click.shell_completion import get_completion_class

    from clusterd.cli.commands import clusterd

    found = get_completion_class(shell)
    assert found is not None
    script = found(clusterd, {}, "clusterd", "_CLUSTERD_COMPLETE")
    # `source` runs bash to learn its version; the template alone needs no bash.
    click.echo(script.source_template % script.source_vars())
