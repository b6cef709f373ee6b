from .command import main

if __name__ == "__main__":  # workers of Python pools import this module, too
    main()
