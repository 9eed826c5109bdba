import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { ReadonlyJSONObject, ReadonlyPartialJSONObject } from '@lumino/coreutils';
import { elasticIcon } from '../icons';
import { IResourceWish } from '../request';
import { CommandIDs, IElasticActions, IElasticModel, PACKAGE } from '../tokens';

const RESOURCES: ReadonlyJSONObject = {
  type: 'object',
  description: 'Quantities in the notation of Kubernetes; what is left out stays.',
  properties: {
    cpu: { type: 'string' },
    memory: { type: 'string' },
    gpu: {
      type: ['object', 'null'],
      properties: { kind: { type: 'string' }, count: { type: 'integer' } }
    }
  }
};

/** Start, resize, stop: for the palette, keyboard shortcuts and other extensions. */
export const commandsPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:commands`,
  description: 'Commands for elastic kernels.',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    { actions, current }: IElasticActions,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ) => {
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    const { commands } = app;
    const idOf = (args: ReadonlyPartialJSONObject): string | null =>
      typeof args.kernelId === 'string' ? args.kernelId : current.kernelId;
    const isElastic = (args: ReadonlyPartialJSONObject): boolean =>
      model.kernel(idOf(args)) !== null;

    commands.addCommand(CommandIDs.startKernel, {
      label: trans.__('Start Elastic Kernel…'),
      caption: trans.__(
        'Start an elastic kernel for the current notebook, or for a new one'
      ),
      icon: args => (args.isPalette ? undefined : elasticIcon),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            template: {
              type: 'string',
              description: trans.__(
                'Name of the template; without it, the form is shown.'
              )
            },
            resources: RESOURCES,
            name: { type: 'string' },
            path: { type: 'string' }
          }
        }
      },
      execute: async args => {
        if (typeof args.template !== 'string') {
          return commands.execute(CommandIDs.openPanel, { section: 'start' });
        }
        try {
          const { start, attached } = await actions.start({
            template: args.template,
            resources: args.resources as IResourceWish | undefined,
            name: args.name as string | undefined,
            path: args.path as string | undefined
          });
          await attached;
          return start.kernel.kernel_id;
        } catch (error) {
          await actions.showProblem(trans.__('Cannot start the kernel'), error);
        }
      }
    });

    commands.addCommand(CommandIDs.resizeKernel, {
      label: trans.__('Resize Elastic Kernel…'),
      caption: trans.__('Change CPU and memory of the kernel while it runs'),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            kernelId: {
              type: 'string',
              description: trans.__('Default: the kernel of the current document.')
            },
            resources: RESOURCES
          }
        }
      },
      isEnabled: isElastic,
      execute: async args => {
        const id = idOf(args);
        if (!id || !args.resources) {
          return commands.execute(CommandIDs.openPanel, { section: 'kernel' });
        }
        const wish = args.resources as IResourceWish;
        try {
          await actions.resizeOrMove(id, wish);
        } catch (error) {
          await actions.showProblem(trans.__('Cannot resize the kernel'), error);
        }
      }
    });

    commands.addCommand(CommandIDs.stopKernel, {
      label: trans.__('Stop Elastic Kernel'),
      caption: trans.__('End the kernel; its variables are lost'),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            kernelId: {
              type: 'string',
              description: trans.__('Default: the kernel of the current document.')
            },
            ask: {
              type: 'boolean',
              default: true,
              description: trans.__('Whether to ask first.')
            }
          }
        }
      },
      isEnabled: isElastic,
      execute: async args => {
        const id = idOf(args);
        if (id) {
          try {
            await actions.stop(id, args.ask !== false);
          } catch (error) {
            await actions.showProblem(trans.__('Cannot stop the kernel'), error);
          }
        }
      }
    });

    const changed = (): void => {
      commands.notifyCommandChanged(CommandIDs.resizeKernel);
      commands.notifyCommandChanged(CommandIDs.stopKernel);
    };
    current.changed.connect(changed);

    const category = trans.__('Elastic Kernels');
    for (const command of [
      CommandIDs.startKernel,
      CommandIDs.resizeKernel,
      CommandIDs.stopKernel
    ]) {
      palette?.addItem({ command, category, args: { isPalette: true } });
    }
  }
};
