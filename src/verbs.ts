/**
 * What can be done to one kernel without saying more: commands, for the palette and context menus.
 */
import { Clipboard, Notification } from '@jupyterlab/apputils';
import { PageConfig, URLExt } from '@jupyterlab/coreutils';
import { TranslationBundle } from '@jupyterlab/translation';
import { ElasticActions } from './actions';
import { writeLink } from './link';
import { ElasticModel } from './model';
import { IKernel } from './request';
import { CommandIDs } from './tokens';

export interface IVerb {
  command: string;
  label: string;
  caption: string;
  failure: string;
  isPossible: (kernel: IKernel) => boolean;
  do: (kernel: IKernel) => Promise<unknown>;
}

/** What can be done to one kernel without saying more. */
export function verbs(
  model: ElasticModel,
  actions: ElasticActions,
  trans: TranslationBundle
): IVerb[] {
  const isRunning = (kernel: IKernel): boolean => kernel.phase === 'Running';
  return [
    {
      command: CommandIDs.openKernel,
      label: trans.__('Open Notebook of Elastic Kernel'),
      caption: trans.__('Open what uses the kernel, or a new notebook on it'),
      failure: trans.__('Cannot open'),
      isPossible: isRunning,
      do: kernel => actions.open(kernel)
    },
    {
      command: CommandIDs.attachKernel,
      label: trans.__('Use Elastic Kernel for This Notebook'),
      caption: trans.__('Let the current notebook use a kernel that runs already'),
      failure: trans.__('Cannot attach'),
      isPossible: isRunning,
      do: kernel => actions.attach(kernel)
    },
    {
      command: CommandIDs.restartKernel,
      label: trans.__('Restart Elastic Kernel…'),
      caption: trans.__('Restart the kernel in its pod, with its resources'),
      failure: trans.__('Cannot restart'),
      isPossible: kernel => isRunning(kernel) && actions.canRestart(kernel.kernel_id),
      do: kernel => actions.restart(kernel.kernel_id)
    },
    {
      command: CommandIDs.keepKernel,
      label: trans.__('Keep Elastic Kernel Alive'),
      caption: trans.__('Start the idle time of the kernel anew'),
      failure: trans.__('Cannot keep the kernel'),
      isPossible: isRunning,
      do: kernel => model.keepAlive(kernel.kernel_id)
    },
    {
      command: CommandIDs.copyLink,
      label: trans.__('Copy Link to Such an Elastic Kernel'),
      caption: trans.__('Whoever follows it is offered a kernel with these resources'),
      failure: trans.__('Cannot copy the link'),
      isPossible: () => true,
      do: async kernel => {
        Clipboard.copyToSystem(writeLink(page(), kernel));
        Notification.success(trans.__('The link is copied.'), { autoClose: 3000 });
      }
    }
  ];
}

/** Where Lab begins, or Notebook's list of files. */
function page(): string {
  const app = window.location.pathname.includes('/lab') ? 'lab' : 'tree';
  return URLExt.join(PageConfig.getBaseUrl(), app);
}
