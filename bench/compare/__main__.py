if __name__ == "__main__":
    from .command import main  # not in workers of Python pools, which import this module, too

    main()
